-- Says of deliveries that they are still being worked on, unless another consumer has taken them over.
--
-- KEYS: stream. ARGV: group, consumer, identities. Answers those that are no longer this consumer's.
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
