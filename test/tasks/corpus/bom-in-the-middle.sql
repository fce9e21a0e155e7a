-- name: a
SELECT 1
﻿-- name: b
SELECT 2
