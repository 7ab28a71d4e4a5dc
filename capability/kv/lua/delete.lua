local revision, size = live(key)
if not revision then return finish('absent', 0) end
remove(key, size)
nextRevision()
return finish('deleted', 0)
