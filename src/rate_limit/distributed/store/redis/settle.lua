-- Settles windows, each by itself, as `Window::settle` of the embedded store does.
--
-- A window is stored as `<Bddddddd`: the number of the format, the latest time of a demand in microseconds, the total, the
-- number of cells, the tokens in them, the tokens that processes hold, a lower bound of the last demands of these
-- processes, and the time until which nothing is granted. Then follows `<dd` for each cell, its end and its tokens, the
-- oldest first. Then follows `<c8dddd` for each process: its number, its sequence, all tokens that it ever spent, the tokens
-- that it holds, and the time of its last demand. The sums avoid reading all records each time.
local FORMAT = 4
local HEADER = 57
local MOST = 9007199254740992
local CELLS = 40

local pack, unpack, sub, find = struct.pack, struct.unpack, string.sub, string.find
local ceil, max, min = math.ceil, math.max, math.min

local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]

-- Every comparison with NaN is false.
local function sound(...)
    for place = 1, select('#', ...) do
        local number = select(place, ...)
        if not (number >= 0 and number <= MOST * 64) then
            return false
        end
    end
    return true
end

-- Nothing is written before all keys are read, so a foreign value leaves the whole batch unchanged.
local values = {}
for place = 1, #KEYS do
    local value = redis.pcall('GET', KEYS[place])
    if type(value) == 'table' then
        if find(value.err, 'WRONGTYPE', 1, true) then
            return redis.error_reply('FOREIGN ' .. place)
        end
        return value
    end
    if value then
        if #value < HEADER then
            return redis.error_reply('FOREIGN ' .. place)
        end
        local format, now, total, number, counted, held, oldest, closed_until = unpack('<Bddddddd', value)
        local rest = #value - HEADER - 16 * number
        if format ~= FORMAT or not sound(now, total, number, counted, held, oldest, closed_until, rest) or number % 1 + rest % 40 ~= 0 then
            return redis.error_reply('FOREIGN ' .. place)
        end
    end
    values[place] = value
end

-- Returns the cells with `tokens` more in the cell that ends at `stop`.
local function count(cells, stop, tokens)
    local place = #cells - 15
    while place >= 1 do
        local ends, before = unpack('<dd', cells, place)
        if ends == stop then
            return sub(cells, 1, place + 7) .. pack('<d', min(before + tokens, MOST)) .. sub(cells, place + 16)
        elseif ends < stop then
            break
        end
        place = place - 16
    end
    return sub(cells, 1, place + 15) .. pack('<dd', stop, tokens) .. sub(cells, place + 16)
end

-- Returns the processes with a demand since `since`, the tokens that they hold, the tokens that the others held, and the
-- earliest last demand of those that stay.
local function hear(holders, since, now)
    local left, held, gone, oldest = {}, 0, 0, now
    for place = 1, #holders, 40 do
        local holds, heard = unpack('<dd', holders, place + 24)
        if heard < since then
            gone = gone + holds
        else
            left[#left + 1] = sub(holders, place, place + 39)
            held = held + holds
            oldest = min(oldest, heard)
        end
    end
    return table.concat(left), held, gone, oldest
end

-- Returns records of this length, with the time at this place in each of them moved back.
local function shift(records, length, time, back)
    local shifted = {}
    for place = 1, #records, length do
        local at = unpack('<d', records, place + time)
        shifted[#shifted + 1] = sub(records, place, place + time - 1) .. pack('<d', at - back)
            .. sub(records, place + time + 8, place + length - 1)
    end
    return table.concat(shifted)
end

local answers = {}
for place = 1, #KEYS do
    local demand = ARGV[place]
    local limit, window, sequence, spent, holds, want, known_total, client, spends = unpack('<dddddddc8', demand)
    local length = max(1, ceil(window / CELLS))
    local value = values[place]
    local now, total, counted, held, oldest, closed_until, cells, holders = clock, 0, 0, 0, clock, 0, '', ''
    if value then
        local before, number
        before, total, number, counted, held, oldest, closed_until = unpack('<ddddddd', value, 2)
        cells = sub(value, HEADER + 1, HEADER + 16 * number)
        holders = sub(value, HEADER + 1 + 16 * number)
        if now < before - length then
            -- The clock went back. All times go back with it, so that every age stays the same.
            local back = before - now
            cells, holders = shift(cells, 16, 0, back), shift(holders, 40, 32, back)
            oldest, closed_until = oldest - back, max(0, closed_until - back)
        else
            now = max(now, before)
        end
    end

    local first = 1
    while first <= #cells do
        local ends, tokens = unpack('<dd', cells, first)
        if ends + window > now then
            break
        end
        counted = max(0, counted - tokens)
        first = first + 16
    end
    cells = sub(cells, first)
    if cells == '' then
        counted = 0
    end

    if oldest < now - 2 * window then
        -- Processes without a demand for two windows may have spent what they held until now.
        local gone
        holders, held, gone, oldest = hear(holders, now - 2 * window, now)
        if gone > 0 then
            cells = count(cells, now - now % length + length, gone)
            counted = counted + gone
            total = min(total + gone, MOST)
        end
    end

    local last_sequence, last_spent = 0, 0
    local found = find(holders, client, 1, true)
    while found and found % 40 ~= 1 do
        found = find(holders, client, found + 1, true)
    end
    if found then
        local held_before
        last_sequence, last_spent, held_before = unpack('<ddd', holders, found + 8)
        if sequence > last_sequence then
            holders = sub(holders, 1, found - 1) .. sub(holders, found + 40)
            held = holders == '' and 0 or max(0, held - held_before)
        end
    end

    local lost = 0
    if total < known_total then
        -- There may be spends that no process will report.
        lost, total = 1, known_total
        if closed_until <= now then
            closed_until = now + window
        end
    end
    if sequence <= last_sequence then
        answers[place] = pack('<dddd', 0, 0, total, lost)
    else
        local new = max(0, spent - last_spent)
        while new > 0 and spends < #demand do
            local age, tokens = unpack('<dd', demand, spends)
            tokens = min(new, tokens)
            if tokens > 0 then
                local at = max(0, now - age)
                cells = count(cells, at - at % length + length, tokens)
                counted = counted + tokens
                total = min(total + tokens, MOST)
                new = new - tokens
            end
            spends = spends + 16
        end

        local free = now < closed_until and 0 or max(0, limit - counted - held - holds)
        local granted = min(want, free)
        holds = min(holds + granted, MOST)
        oldest = holders == '' and now or oldest
        held = held + holds

        -- An absent window is empty. The key expires once the last process counts as gone and its tokens have counted for a window.
        local counts_until = now + 2 * window
        if held > 0 then
            counts_until = counts_until + window + length
        end
        if cells ~= '' then
            counts_until = max(counts_until, unpack('<d', cells, #cells - 15) + window)
        end
        local expiry = min(ceil((counts_until - clock) / 1000) + 1000, 1e15)
        local state = pack('<Bddddddd', FORMAT, now, total, #cells / 16, counted, held, oldest, closed_until)
        local holder = pack('<c8dddd', client, sequence, spent, holds, now)
        redis.call('SET', KEYS[place], state .. cells .. holders .. holder, 'PX', expiry)
        answers[place] = pack('<dddd', granted, free - granted, total, lost)
    end
end
return answers
