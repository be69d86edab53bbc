-- Keeps deliveries alive, unless another consumer has taken them over.
--
-- KEYS: stream. ARGV: group, consumer, identities. Answers the identities that this consumer no longer has.
local lost = {}
for place = 3, #ARGV do
    local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[place], ARGV[place], 1, ARGV[2])
    if #pending > 0 then
        redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[place], 'JUSTID')
    else
        lost[#lost + 1] = ARGV[place]
    end
end
return lost
