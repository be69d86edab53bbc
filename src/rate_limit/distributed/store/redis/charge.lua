-- Charges buckets, each by itself, as `Bucket::charge` of the embedded store does.
--
-- A bucket is stored as `<Bddddd`: the number of the format, the level in tokens, the time of the level in microseconds,
-- the total, the rate in tokens per microsecond at which it drains, and the debt in tokens. Then follows `<c8d` for each
-- process that may repeat a charge: its number and its last sequence. The process not heard for the longest time is first.
-- Numbers are doubles, which are exact for integers up to 2^53. All numbers are clamped to that.
local FORMAT = 3
local HEADER = 41
local MOST = 9007199254740992
local PROCESSES_KNOWN = 64
-- The part of the rate that repays a debt.
local REPAID = 0.4

local all = unpack
local pack, unpack, sub, find = struct.pack, struct.unpack, string.sub, string.find
local ceil, max, min = math.ceil, math.max, math.min

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Nothing is written before all keys are read, so a foreign value leaves the whole batch unchanged.
-- One command for many keys costs the server less than one command for each. It answers nothing for absent keys and for
-- keys that are not strings, so these are read one by one.
local values = {}
if #KEYS > 1 then
    values = redis.pcall('MGET', all(KEYS))
    if values.err then
        return values
    end
end
for place = 1, #KEYS do
    local value = values[place] or redis.pcall('GET', KEYS[place])
    if type(value) == 'table' then
        if find(value.err, 'WRONGTYPE', 1, true) then
            return redis.error_reply('FOREIGN ' .. place)
        end
        return value
    end
    if value then
        if #value < HEADER or (#value - HEADER) % 16 ~= 0 then
            return redis.error_reply('FOREIGN ' .. place)
        end
        local format, level, at, total, rate, debt = unpack('<Bddddd', value)
        -- Every comparison with NaN is false.
        local sound = level >= 0 and level <= 2 * MOST and at >= 0 and at <= MOST and total >= 0 and total <= MOST
        sound = sound and debt >= 0 and debt <= 2 * MOST
        if format ~= FORMAT or not sound or not (rate > 0 and rate <= MOST) then
            return redis.error_reply('FOREIGN ' .. place)
        end
    end
    values[place] = value
end

local answers = {}
for place = 1, #KEYS do
    local burst, most, rate, spent, late, refund, refund_of, want, least, hint_level, hint_at, hint_total, sequence, client =
        unpack('<dddddddddddddc8', ARGV[place])
    local value = values[place]
    local level, at, total, old_rate, debt, heard = 0, now, 0, rate, 0, ''
    if value then
        level, at, total, old_rate, debt = unpack('<ddddd', value, 2)
        heard = sub(value, HEADER + 1)
    end
    local changed = false

    -- Subtracts what has drained only if rounding does not lose it in a large level. Otherwise the stored time stays, and
    -- `drained` is added again to the stored level. Tokens added to that level drain in the same way.
    local drained = 0
    if now < at then
        changed = level > 0 or debt > 0
        at = now
    else
        drained = (now - at) * old_rate
        if debt > 0 then
            local repaid = min(debt, drained * REPAID)
            local left = drained - repaid
            debt = max(0, debt - repaid - max(0, left - level))
            level = max(0, level - left)
            at, drained = now, 0
        elseif drained >= level then
            level, at, drained = 0, now, 0
        else
            level = level - drained
            if drained * 1048576 >= level or rate ~= old_rate then
                at, drained = now, 0
            end
        end
    end
    changed = changed or ((level > 0 or debt > 0) and rate ~= old_rate)

    if total < hint_total then
        total = hint_total
        level = max(level, min(hint_level, most) - max(0, now - hint_at) * rate)
        changed = true
    end

    local back = refund - max(0, now - refund_of) * rate
    if back > 0 and level > 0 then
        level = max(0, level - back)
        changed = true
    end

    if spent > 0 then
        local last = 0
        local found = find(heard, client, 1, true)
        while found and found % 16 ~= 1 do
            found = find(heard, client, found + 1, true)
        end
        if found then
            last = unpack('<d', heard, found + 8)
            heard = sub(heard, 1, found - 1) .. sub(heard, found + 16)
        elseif #heard >= 16 * PROCESSES_KNOWN then
            heard = sub(heard, 17)
        end
        heard = heard .. client .. pack('<d', max(sequence, last))
        if sequence > last then
            -- A level or a debt that another quota has raised above `most` stays.
            late = min(late, spent)
            level = min(level + spent - late, max(most, level))
            local room = min(late, max(0, burst - level))
            level = level + room
            debt = min(debt + late - room, max(debt, most - level))
            total = min(total + spent, MOST)
        end
        changed = true
    end

    -- A level this near to a whole number counts as that number. The error does not add up, since the grant is added to
    -- the exact level.
    local near = 1e-6 + level * 1e-15
    local granted = min(want, max(0, burst - ceil(level - near)))
    if granted < least then
        granted = 0
    end
    local retry_after = 0
    if granted > 0 then
        level = min(level + granted, max(most, level))
        total = min(total + granted, MOST)
        changed = true
    else
        local excess = max(0, level - max(0, burst - least))
        -- The level drains at a part of the rate until the debt is repaid, then at the whole rate.
        if excess * REPAID <= debt * (1 - REPAID) then
            retry_after = min(ceil(excess / (rate * (1 - REPAID))), MOST)
        else
            retry_after = min(ceil((excess + debt) / rate), MOST)
        end
    end

    if changed then
        -- An absent bucket is empty. The key expires a second after that, so that repeated charges are still recognized.
        local expiry = min(ceil((level + debt) / rate / 1000) + 1000, 1e15)
        local state = pack('<Bddddd', FORMAT, level + drained, at, total, rate, debt)
        redis.call('SET', KEYS[place], state .. heard, 'PX', expiry)
    end
    local owed = max(0, ceil(debt - 1e-6 - debt * 1e-15))
    answers[place] = pack('<dddddd', granted, max(0, ceil(level - near)), owed, total, retry_after, now)
end
return answers
