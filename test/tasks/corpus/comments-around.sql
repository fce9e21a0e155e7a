-- name: a
-- What it is for.

   -- Indented.

  SELECT 1, -- one

  -- two follows
    2;

-- The next one is for the other department.
--
	-- Really.

-- name: b
SELECT 3 /* three */

/* What
-- name: commented_out
SELECT 4;
*/
-- name: c
/* before
-- queue: none
*/
-- queue: q
SELECT 5
