-- Appends a dead letter as a new message, if the queue has room.
--
-- KEYS: stream, retries, totals, dead letters. ARGV: depth, identity of the letter. Answers like `append.lua` for one
-- message, with `?` if there is no such letter.
local stream, retries, totals, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call = redis.call
local time = call('TIME')
local ended = call('HMGET', totals, 'acknowledged', 'dead', 'dropped', 'appended')
local backlog = call('XLEN', stream) + call('ZCARD', retries)
local letter = call('XRANGE', dead, ARGV[2], ARGV[2], 'COUNT', 1)[1]
-- `XRANGE` takes a part of an identity as a range.
if letter and letter[1] ~= ARGV[2] then
    letter = nil
end
local answer = '?'
if letter and backlog >= tonumber(ARGV[1]) then
    answer = ''
elseif letter then
    answer = call('XADD', stream, '*', 'p', letter[2][2])
    call('XDEL', dead, ARGV[2])
    -- A refused count fails no message.
    redis.pcall('HINCRBY', totals, 'appended', 1)
    redis.pcall('HINCRBY', totals, 'revived', 1)
end
return {
    time[1] * 1000 + math.floor(time[2] / 1000),
    backlog,
    tonumber(ended[4] or 0) or 0,
    (tonumber(ended[1] or 0) or 0) + (tonumber(ended[2] or 0) or 0) + (tonumber(ended[3] or 0) or 0),
    answer,
}
