-- Records the state of a suspect's call before the call gets there, unless another consumer has taken the delivery
-- over. See `tend.lua` for the meaning of the number.
--
-- KEYS: stream. ARGV: group, consumer, identity, state. Answers 1, or 0 if this consumer no longer has the delivery.
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])[1]
if not pending then
    return 0
end
local number = pending[4] - (pending[4] - 1) % 4 + ARGV[4]
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'RETRYCOUNT', number, 'JUSTID')
return 1
