--name:tight
--DB:a
SELECT 1
   --   NAME   :   wide  
	--	Queue	:	q	
	-- X-Owner: Me
  SELECT 2
-- Name: with blanks inside
-- MAX_ROWS: 5
SELECT 3
