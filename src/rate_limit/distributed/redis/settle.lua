-- Settles windows, each by itself: what `Account::settle` of the embedded store does.
--
-- A window is `<Bddd` of the format's number, the latest time at which it was asked in microseconds, its total and the
-- number of its cells; then `<dd` for each cell, the end of it and the tokens spent in it, the oldest first; then `<c8dddd`
-- for each process: its sequence, all that it ever spent, what it holds, and when it was last heard of.
local FORMAT = 2
local MOST = 9007199254740992
local CELLS = 40

local spread = unpack
local pack, unpack, sub, rep = struct.pack, struct.unpack, string.sub, string.rep
local ceil, max, min = math.ceil, math.max, math.min
local insert, remove = table.insert, table.remove

local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]

-- Nothing is written before all has been read: a value of somebody else's leaves the whole batch as it was.
local values = {}
for place = 1, #KEYS do
    local value = redis.pcall('GET', KEYS[place])
    if type(value) == 'table' then
        if string.find(value.err, 'WRONGTYPE', 1, true) then
            return redis.error_reply('FOREIGN ' .. place)
        end
        return value
    end
    if value then
        if #value < 25 then
            return redis.error_reply('FOREIGN ' .. place)
        end
        local format, now, total, cells = unpack('<Bddd', value)
        -- Whatever is compared with a number that is none is false.
        local sound = now >= 0 and now <= MOST and total >= 0 and total <= MOST and cells >= 0 and cells <= 2048
        if format ~= FORMAT or not sound or cells % 1 ~= 0 then
            return redis.error_reply('FOREIGN ' .. place)
        end
        local rest = #value - 25 - 16 * cells
        if rest < 0 or rest % 40 ~= 0 then
            return redis.error_reply('FOREIGN ' .. place)
        end
    end
    values[place] = value
end

-- Counts so many tokens as spent at this time, in a list of ends and tokens by turns.
local function count(cells, length, at, tokens)
    local stop = at - at % length + length
    local last = #cells
    while last > 0 and cells[last - 1] > stop do
        last = last - 2
    end
    if last > 0 and cells[last - 1] == stop then
        cells[last] = min(cells[last] + tokens, MOST)
    else
        insert(cells, last + 1, stop)
        insert(cells, last + 2, tokens)
    end
end

local answers = {}
for place = 1, #KEYS do
    local demand = ARGV[place]
    local limit, window, sequence, spent, held, want, known_total, client, spends = unpack('<dddddddc8', demand)
    local length = max(1, ceil(window / CELLS))
    local value = values[place]
    local now, total, cells, others = clock, 0, {}, {}
    local last_sequence, last_spent = 0, 0
    -- What the others hold, and until when anything here counts.
    local held_by_others, counts_until = 0, 0
    local gone = 0

    if value then
        local before, number
        before, total, number = unpack('<ddd', value, 2)
        -- A clock that goes back stands still.
        now = max(now, before)
        local position = 26
        if number > 0 then
            cells = { unpack('<' .. rep('dd', number), value, position) }
            position = remove(cells)
        end
        local forgotten = 0
        while forgotten < #cells and cells[forgotten + 1] + window <= now do
            forgotten = forgotten + 2
        end
        if forgotten > 0 then
            cells = { spread(cells, forgotten + 1) }
        end
        while position <= #value do
            local who, its_sequence, its_spent, its_held, heard = unpack('<c8dddd', value, position)
            if now - heard > 2 * window then
                -- Not heard of for two windows: what it held it may have spent until now.
                gone = gone + its_held
            elseif who == client then
                last_sequence, last_spent = its_sequence, its_spent
            else
                others[#others + 1] = sub(value, position, position + 39)
                held_by_others = held_by_others + its_held
                counts_until = max(counts_until, heard + 2 * window, its_held > 0 and heard + 3 * window + length or 0)
            end
            position = position + 40
        end
    end
    if gone > 0 then
        count(cells, length, now, gone)
        total = min(total + gone, MOST)
    end

    local lost = total < known_total and 1 or 0
    if sequence <= last_sequence then
        answers[place] = pack('<dddd', 0, 0, total, lost)
    else
        local new = max(0, spent - last_spent)
        local position = spends
        while new > 0 and position <= #demand do
            local age, tokens = unpack('<dd', demand, position)
            tokens = min(new, tokens)
            if tokens > 0 then
                new = new - tokens
                count(cells, length, max(0, now - age), tokens)
                total = min(total + tokens, MOST)
            end
            position = position + 16
        end

        local counted = held_by_others
        for cell = 2, #cells, 2 do
            counted = counted + cells[cell]
        end
        local free = max(0, limit - counted - held)
        local granted = min(want, free)
        local holds = min(held + granted, MOST)

        counts_until = max(counts_until, now + 2 * window, holds > 0 and now + 3 * window + length or 0)
        if #cells > 0 then
            counts_until = max(counts_until, cells[#cells - 1] + window)
        end
        local expiry = min(ceil((counts_until - clock) / 1000) + 1000, 1e15)
        local state = pack('<Bddd', FORMAT, now, total, #cells / 2)
        if #cells > 0 then
            state = state .. pack('<' .. rep('d', #cells), spread(cells))
        end
        others[#others + 1] = pack('<c8dddd', client, sequence, spent, holds, now)
        redis.call('SET', KEYS[place], state .. table.concat(others), 'PX', expiry)
        answers[place] = pack('<dddd', granted, free - granted, total, lost)
    end
end
return answers
