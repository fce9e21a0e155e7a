-- name: a
-- Same: as the other one
-- Game: by the player
-- Names: first and last
  SELECT 1
