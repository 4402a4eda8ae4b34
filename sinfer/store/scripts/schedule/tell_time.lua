#!lua flags=allow-oom
-- What time it is.
--
-- KEYS  1  clock  hash: where the group of keys notes its time
-- ARGV  1  make  1: note it even where the hash does not exist yet
-- Returns the time of the group (ms).
return now_of(KEYS[1], ARGV[1] == '1')
