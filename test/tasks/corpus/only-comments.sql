-- Reports of the accounting department.
-- Ask: accounting@example.com
/* none yet */
