-- Sends the templates that bench/load.py has written, one after the other: head, key, tail.
-- Each request gets a new key. The argument "checked" counts every status. Only warm-ups use it,
-- because counting slows the load generator.

local heads, tails, run, sent, codes

function setup(thread) worker = thread end

function init(args)
  local templates = dofile(args[1])
  heads, tails, run, sent = templates.heads, templates.tails, args[2], 0
  if args[3] == "checked" then
    codes = {}
    response = function(status)
      local name = tostring(status)
      codes[name] = (codes[name] or 0) + 1
      statuses = ""
      for code, count in pairs(codes) do statuses = statuses .. code .. "=" .. count .. " " end
    end
  end
end

function request()
  sent = sent + 1
  local index = sent % #heads + 1
  return heads[index] .. run .. string.format("%010d", sent) .. tails[index]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "max": %d, "status": %d, '
      .. '"connect": %d, "read": %d, "write": %d, "timeout": %d, "statuses": "%s"}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout, worker:get("statuses") or ""))
end
