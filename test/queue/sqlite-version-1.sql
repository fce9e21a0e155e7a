-- What a file of schema 1 had in it, as that version wrote it: see sqlite-upgrade.test.ts.
DELETE FROM store;
INSERT INTO store (only, store_id, last_seq, last_fence, readied, stopped, finished) VALUES
  (1, 'ebd8f6a5e989bad9e7199cd5691e6178', 19, 4, 6, 0, 2);
INSERT INTO jobs (seq, job_id, task, queue, state, hold, priority, due_at, place, slot, waits, retries, attempt, failures, crashes, fence, group_seq, group_id, cancel_requested, created_at, eta, started_at, finished_at, worker, error, result, payload, parents) VALUES
  (2, 'old-1', 'task', 'default', 'SUCCESS', NULL, 0, 1800000000001, 2, 1, 0, 0, 1, 0, 0, 1, 1, 'old', 0, 1800000000001, NULL, 1800000000001, 1800000000001, 'w', '', '1', '{"of":"old-1"}', NULL),
  (3, 'old-2', 'task', 'default', 'FAILURE', NULL, 0, 1800000000001, 3, 1, 0, 0, 1, 0, 0, 2, 1, 'old', 0, 1800000000001, NULL, 1800000000001, 1800000000001, 'w', 'it broke', NULL, '{"of":"old-2"}', NULL),
  (4, 'plain-1', 'task', 'default', 'PENDING', 0, -1, 1800000000001, 4, NULL, 0, 0, 0, 0, 0, NULL, NULL, NULL, 0, 1800000000001, NULL, NULL, NULL, NULL, '', NULL, '{"of":"plain-1"}', NULL),
  (6, 'g-1', 'task', 'default', 'STARTED', NULL, 0, 1800000000001, 6, 5, 0, 0, 1, 0, 0, 4, 5, 'g', 0, 1800000000001, NULL, 1800000000005, NULL, 'w', '', NULL, '{"of":"g-1"}', NULL),
  (7, 'g-2', 'task', 'default', 'PENDING', 1, 0, 1800000000001, 7, 5, 0, 0, 0, 0, 0, NULL, 5, 'g', 0, 1800000000001, NULL, NULL, NULL, NULL, '', NULL, '{"of":"g-2"}', NULL),
  (8, 'g-3', 'task', 'default', 'PENDING', 1, 0, 1800000000001, 8, 5, 0, 0, 0, 0, 0, NULL, 5, 'g', 0, 1800000000001, NULL, NULL, NULL, NULL, '', NULL, '{"of":"g-3"}', NULL),
  (9, 'g-4', 'task', 'default', 'STARTED', NULL, 2, 1800000000001, 9, 5, 0, 0, 1, 0, 0, 3, 5, 'g', 0, 1800000000001, NULL, 1800000000005, NULL, 'w', '', NULL, '{"of":"g-4"}', NULL),
  (10, 'g-5', 'task', 'other', 'PENDING', 1, 0, 1800000000001, 10, 5, 0, 0, 0, 0, 0, NULL, 5, 'g', 0, 1800000000001, NULL, NULL, NULL, NULL, '', NULL, '{"of":"g-5"}', NULL),
  (11, 'g-6', 'task', 'other', 'PENDING', 1, 0, 1800000000001, 11, 5, 0, 0, 0, 0, 0, NULL, 5, 'g', 0, 1800000000001, NULL, NULL, NULL, NULL, '', NULL, '{"of":"g-6"}', NULL),
  (12, 'g-later', 'task', 'default', 'PENDING', 0, 0, 1800003600000, 12, 5, 0, 0, 0, 0, 0, NULL, 5, 'g', 0, 1800000000001, 1800003600000, NULL, NULL, NULL, '', NULL, '{"of":"g-later"}', NULL),
  (13, 'g-child', 'task', 'default', 'PENDING', 2, 0, 1800000000001, 13, 5, 1, 0, 0, 0, 0, NULL, 5, 'g', 0, 1800000000001, NULL, NULL, NULL, NULL, '', NULL, '{"of":"g-child"}', '[["g-1","cancel",6]]'),
  (15, 'free-1', 'task', 'default', 'PENDING', 0, 0, 1800000000005, 15, NULL, 0, 0, 0, 0, 0, NULL, 14, 'free', 0, 1800000000005, NULL, NULL, NULL, NULL, '', NULL, '{"of":"free-1"}', NULL),
  (16, 'free-2', 'task', 'default', 'PENDING', 0, 0, 1800000000005, 16, NULL, 0, 0, 0, 0, 0, NULL, 14, 'free', 0, 1800000000005, NULL, NULL, NULL, NULL, '', NULL, '{"of":"free-2"}', NULL),
  (18, 'h-1', 'task', 'default', 'PENDING', 0, 0, 1800000000005, 18, 17, 0, 0, 0, 0, 0, NULL, 17, 'h', 0, 1800000000005, NULL, NULL, NULL, NULL, '', NULL, '{"of":"h-1"}', NULL),
  (19, 'h-2', 'task', 'default', 'PENDING', 1, 0, 1800000000005, 19, 17, 0, 0, 0, 0, 0, NULL, 17, 'h', 0, 1800000000005, NULL, NULL, NULL, NULL, '', NULL, '{"of":"h-2"}', NULL);
INSERT INTO leases (fence, seq, expires_at, progress) VALUES
  (3, 9, 1800000060005, NULL),
  (4, 6, 1800000060005, NULL);
INSERT INTO dependencies (parent_seq, child_seq, on_failure) VALUES
  (6, 13, 'cancel');
INSERT INTO groups (seq, group_id, concurrency, created_at, unfinished, finished_at, forgotten) VALUES
  (1, 'old', 1, 1800000000001, 0, 1800000000001, 0),
  (5, 'g', 2, 1800000000001, 8, NULL, 0),
  (14, 'free', NULL, 1800000000005, 2, NULL, 0),
  (17, 'h', 1, 1800000000005, 2, NULL, 0);
INSERT INTO slots (slot, capacity, taken) VALUES
  (1, 1, 0),
  (5, 2, 2),
  (17, 1, 0);
INSERT INTO counts (queue, state, jobs) VALUES
  ('default', 'FAILURE', 1),
  ('default', 'PENDING', 9),
  ('default', 'STARTED', 2),
  ('default', 'SUCCESS', 1),
  ('other', 'PENDING', 2);
