-- How Argo CD judges an EmbeddingModel. Without this it calls one healthy as soon as it exists.
local function condition(kind)
  for _, found in ipairs((obj.status or {}).conditions or {}) do
    if found.type == kind then
      return found
    end
  end
  return {}
end

local function is(status, found)
  return { status = status, message = found.message }
end

local ready = condition("Ready")
local progressing = condition("Progressing")
local stalled = condition("Stalled")

if ready.status == nil then
  return { status = "Progressing", message = "Waiting for the operator to see the resource" }
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "Waiting for the operator to see the change" }
end
if progressing.reason == "Paused" then
  return is("Suspended", progressing)
end
if stalled.status == "True" then
  return is("Degraded", stalled)
end
if obj.spec.suspend then
  return is("Suspended", ready)
end
if ready.status == "True" then
  return is("Healthy", ready)
end
return is("Progressing", ready)
