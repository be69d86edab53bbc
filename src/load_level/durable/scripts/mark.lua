-- Says how the call of a delivery that may have killed a worker goes on, before it does, unless another consumer has taken
-- the delivery over. See `tend.lua` for what the number means.
--
-- KEYS: stream. ARGV: group, consumer, identity, state. Answers 1, or 0 if it is no longer this consumer's.
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])[1]
if not pending then
    return 0
end
local number = pending[4] - (pending[4] - 1) % 4 + ARGV[4]
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'RETRYCOUNT', number, 'JUSTID')
return 1
