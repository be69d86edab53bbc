-- Reads the counts of a queue. KEYS: stream, retries, totals, dead letters. ARGV: group.
local call = redis.call
local time = call('TIME')
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
local oldest = call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local totals = call('HMGET', KEYS[3], 'appended', 'acknowledged', 'redelivered', 'dead', 'dropped', 'trimmed')
local answers = {
    time[1] * 1000 + math.floor(time[2] / 1000),
    call('XLEN', KEYS[1]),
    pending.err and 0 or pending[1],
    call('ZCARD', KEYS[2]),
    call('XLEN', KEYS[4]),
    oldest and (oldest[2][4] or oldest[1]) or '',
}
for place = 1, 6 do
    answers[place + 6] = tonumber(totals[place] or 0) or 0
end
return answers
