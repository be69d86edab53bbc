-- The generic cell rate algorithm for one token of one key, as one would write it by hand: the value is the theoretical
-- arrival time in microseconds.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local emission, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + emission
if arrival - now > tolerance then
    return 0
end
redis.call('SET', KEYS[1], string.format('%.4f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1)
return 1
