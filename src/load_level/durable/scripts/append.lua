-- Appends messages while the queue has room. For a duplicate it returns the identity of the first message.
--
-- KEYS: stream, retries, totals, then the deduplication key of each message that has one. ARGV: depth, milliseconds
-- until those keys expire, a letter for each message (`k` with a key, `-` without), then the payloads. Answers:
-- milliseconds of the clock; backlog, appended messages and ended messages, all before this call; then for each message
-- its identity; `=` and the identity of the first message for a duplicate; nothing if the queue is full; or `!` and the
-- reason why the server refused it.
local stream, retries, totals = KEYS[1], KEYS[2], KEYS[3]
local depth, lasts, letters = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local call, pcall, byte, find = redis.call, redis.pcall, string.byte, string.find

local time = call('TIME')
local ended = call('HMGET', totals, 'acknowledged', 'dead', 'dropped', 'appended')
local backlog = call('XLEN', stream) + call('ZCARD', retries)
local answers = {
    time[1] * 1000 + math.floor(time[2] / 1000),
    backlog,
    tonumber(ended[4] or 0) or 0,
    (tonumber(ended[1] or 0) or 0) + (tonumber(ended[2] or 0) or 0) + (tonumber(ended[3] or 0) or 0),
}

local room, appended, next_key, refused = depth - backlog, 0, 4, nil
for place = 1, #letters do
    local once, answer
    if byte(letters, place) == 107 then
        once = KEYS[next_key]
        next_key = next_key + 1
        local first = pcall('GET', once)
        if type(first) == 'table' then
            answer = '!' .. first.err
        elseif first then
            answer = '=' .. first
        end
    end
    if not answer and refused then
        answer = refused
    elseif not answer and room <= 0 then
        answer = ''
    elseif not answer then
        -- A server that is out of memory or read-only checks only the first write of a script.
        answer = pcall('XADD', stream, '*', 'p', ARGV[place + 3])
        if type(answer) == 'table' then
            -- The server refuses all messages, because the connection leads to a replica: the whole call fails.
            if find(answer.err, 'READONLY', 1, true) then
                return redis.error_reply("READONLY You can't write against a read only replica.")
            end
            refused = '!' .. answer.err
            answer = refused
        else
            appended = appended + 1
            room = room - 1
            if once then
                call('SET', once, answer, 'PX', lasts)
            end
        end
    end
    answers[place + 4] = answer
end
if appended > 0 then
    -- A refused count fails no message.
    pcall('HINCRBY', totals, 'appended', appended)
end
return answers
