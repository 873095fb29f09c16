-- Asks for a user drawn from 1,000,000: "ofrep" or "admit", and the API key to show.
local tiers = {"free", "plus", "team", "pro"}
local what

function init(args)
  what = args[1]
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer " .. args[2]
end

function request()
  local n = math.random(1000000)
  local tier = tiers[n % 4 + 1]
  local body
  if what == "ofrep" then
    body = '{"context":{"targetingKey":"user-' .. n .. '","tier":"' .. tier .. '"}}'
  else
    body = '{"feature":"image","user":"user-' .. n .. '","tier":"' .. tier .. '"}'
  end
  return wrk.format(nil, nil, nil, body)
end
