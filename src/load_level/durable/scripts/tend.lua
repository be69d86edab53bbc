-- Moves due messages from the retries to the stream, and takes over deliveries that no worker has kept alive.
--
-- KEYS: stream, retries, totals. ARGV: group, consumer, 1 if the group is to be created, most messages to move,
-- milliseconds after which to take a delivery over or 0, most deliveries to take over. Answers: milliseconds of the
-- clock, number of moved messages, milliseconds until the next one is due or -1, and for each delivery that was taken
-- over its identity, the number of workers that died during its call, 1 if it may have killed a worker, and its fields.
--
-- The consumer group counts how often an entry was delivered. Here that number is 1 + 4 x deaths + state. The state is
-- one of
--
--     0  its call may begin beside others
--     1  suspect: a worker that had it died, perhaps because of it; its call waits until it can begin alone
--     2  alone: a suspect's call has begun, and no other call of this consumer has
--     3  beside: a suspect's call has taken long, and other calls may have begun beside it
--
-- A delivery that no worker has kept alive belonged to a worker that died. If its call was alone or beside, it may have
-- killed the worker: that is one more death. If a call was alone, no other call had begun, and the other deliveries
-- stay as they were. Otherwise each of them may have begun and becomes a suspect, which counts as no death.
local stream, retries, totals = KEYS[1], KEYS[2], KEYS[3]
local group, consumer, most = ARGV[1], ARGV[2], tonumber(ARGV[4])
local idle, most_taken = tonumber(ARGV[5]), tonumber(ARGV[6])
local call, find, sub = redis.call, string.find, string.sub
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
call('XLEN', stream)
call('HLEN', totals)
-- A server that is out of memory checks only the first write of a script, and refuses it if it needs memory. This write
-- needs none, so the server accepts all of them. Moving and taking over messages lets workers end them, which frees
-- memory.
call('ZREM', retries, '')

if ARGV[3] == '1' then
    -- The group begins at the start of the stream, so that messages appended before it existed are delivered too.
    local made = redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
    if made.err and not find(made.err, 'BUSYGROUP', 1, true) then
        return made
    end
end

local due = call('ZRANGEBYSCORE', retries, '-inf', now, 'LIMIT', 0, most)
for _, member in ipairs(due) do
    local cut = find(member, '\n', 1, true)
    -- In this order: if a command fails, Redis keeps what the script has written before.
    call('XADD', stream, '*', 'p', sub(member, cut + 1), 'm', sub(member, 1, cut - 1))
    call('ZREM', retries, member)
end
local next_due = call('ZRANGE', retries, 0, 0, 'WITHSCORES')[2]
next_due = next_due and math.max(0, tonumber(next_due) - now) or -1

local taken = {}
if idle > 0 then
    local pending = redis.pcall('XPENDING', stream, group, 'IDLE', idle, '-', '+', most_taken)
    if pending.err then
        return pending
    end
    -- For each consumer, read before any delivery is taken from it.
    local is_alone = {}
    for _, delivery in ipairs(pending) do
        local from = delivery[2]
        if is_alone[from] == nil then
            is_alone[from] = false
            for _, other in ipairs(call('XPENDING', stream, group, '-', '+', 1000, from)) do
                is_alone[from] = is_alone[from] or (other[4] - 1) % 4 == 2
            end
        end
    end
    for _, delivery in ipairs(pending) do
        local identity, from, number = delivery[1], delivery[2], delivery[4]
        local state = (number - 1) % 4
        -- A delivery of this consumer is one that it could not keep alive, or one whose answer was lost before its call
        -- began.
        if from ~= consumer then
            local deaths = (number - 1 - state) / 4
            if state > 1 then
                deaths, state = deaths + 1, 1
            elseif not is_alone[from] then
                state = 1
            end
            number = 1 + 4 * deaths + state
        end
        local entry = call('XCLAIM', stream, group, consumer, idle, identity, 'RETRYCOUNT', number)[1]
        if entry and entry[2] then
            taken[#taken + 1] = { identity, (number - 1 - state) / 4, state > 0 and 1 or 0, entry[2] }
        else
            call('XACK', stream, group, identity)
        end
    end
    if #taken > 0 then
        redis.pcall('HINCRBY', totals, 'redelivered', #taken)
    end
    -- Remove consumers that died and have no deliveries.
    for _, info in ipairs(call('XINFO', 'CONSUMERS', stream, group)) do
        local of = {}
        for place = 1, #info, 2 do
            of[info[place]] = info[place + 1]
        end
        if of.pending == 0 and of.idle > 10 * idle and of.name ~= consumer then
            call('XGROUP', 'DELCONSUMER', stream, group, of.name)
        end
    end
end
return { now, #due, next_due, taken }
