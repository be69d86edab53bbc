-- Ends deliveries. The call can be repeated: it ignores deliveries that are no longer in progress.
--
-- KEYS: stream, retries, totals, dead letters. ARGV: group, consumer, most dead letters, then four lists, each preceded
-- by its length: identities of done messages, in order; identities of dropped messages, in order; identity, memory and
-- delay in milliseconds of messages to redeliver; identity, memory and reason of dead letters. If a command fails,
-- Redis keeps what the script has written before. Each message is therefore first written to its new place, and then
-- removed from the old one.
local stream, retries, totals, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer, most_dead = ARGV[1], ARGV[2], ARGV[3]
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- The script checks the types of all keys before it writes.
call('XLEN', stream)
call('ZCARD', retries)
call('HLEN', totals)
call('XLEN', dead)
-- A server that is out of memory checks only the first write of a script, and refuses it if it needs memory. This write
-- needs none, so the server accepts all of them. Ending deliveries frees memory.
call('XACK', stream, group, '0-0')

local next_argument = 4
local function take()
    next_argument = next_argument + 1
    return ARGV[next_argument - 1]
end

local function parse(identity)
    local millis, number = string.match(identity, '^(%d+)-(%d+)$')
    return tonumber(millis), tonumber(number)
end

local function last_delivered()
    for _, info in ipairs(call('XINFO', 'GROUPS', stream)) do
        local of = {}
        for place = 1, #info, 2 do
            of[info[place]] = info[place + 1]
        end
        if of.name == group then
            return of['last-delivered-id']
        end
    end
end

-- Acknowledges a list, which is in order, and removes it from the stream. All entries before the oldest one in progress
-- have ended, so one trim removes them, at a small part of the cost of finding each.
local function end_all(total)
    local count = tonumber(take())
    if count == 0 then
        return
    end
    local first, last = next_argument, next_argument + count - 1
    next_argument = last + 1
    local ended = call('XACK', stream, group, unpack(ARGV, first, last))
    if ended > 0 then
        redis.pcall('HINCRBY', totals, total, ended)
        -- If nothing is in progress, all delivered entries have ended. These entries may be later than the last
        -- delivered one: on a replica that took over and had not received their delivery.
        local oldest = call('XPENDING', stream, group)[2] or last_delivered()
        local millis, number = parse(oldest)
        local low, high = first, last + 1
        while low < high do
            local middle = math.floor((low + high) / 2)
            local its_millis, its_number = parse(ARGV[middle])
            if its_millis < millis or (its_millis == millis and its_number < number) then
                low = middle + 1
            else
                high = middle
            end
        end
        if low > first then
            call('XTRIM', stream, 'MINID', '=', oldest)
        end
        first = low
    end
    if first <= last then
        call('XDEL', stream, unpack(ARGV, first, last))
    end
end

-- Returns the payload of a message, if this consumer still has it.
local function payload_of(identity)
    local pending = redis.pcall('XPENDING', stream, group, identity, identity, 1, consumer)
    if pending.err or #pending == 0 then
        return nil
    end
    local entry = call('XRANGE', stream, identity, identity)[1]
    if not entry then
        call('XACK', stream, group, identity)
        return nil
    end
    return entry[2][2]
end

local function remove(identity)
    call('XACK', stream, group, identity)
    call('XDEL', stream, identity)
end

end_all('acknowledged')
end_all('dropped')
local again, died, trimmed = 0, 0, 0
for _ = 1, tonumber(take()) do
    local identity, memory, delay = take(), take(), tonumber(take())
    local payload = payload_of(identity)
    if payload then
        call('ZADD', retries, now + delay, memory .. '\n' .. payload)
        remove(identity)
        again = again + 1
    end
end
for _ = 1, tonumber(take()) do
    local identity, memory, reason = take(), take(), take()
    local payload = payload_of(identity)
    if payload then
        local before = call('XLEN', dead)
        call('XADD', dead, 'MAXLEN', most_dead, '*', 'p', payload, 'm', memory, 'r', reason)
        remove(identity)
        trimmed = trimmed + before + 1 - call('XLEN', dead)
        died = died + 1
    end
end
for total, count in pairs({ redelivered = again, dead = died, trimmed = trimmed }) do
    if count > 0 then
        -- A refused count ends no message.
        redis.pcall('HINCRBY', totals, total, count)
    end
end
return { again, died }
