#!/usr/bin/env Rscript
# Prints whether somebody works here, from what RStudio notes of each of its sessions: whether R
# runs something, and when it was last used (milliseconds since 1970).
sessions <- Sys.glob("~/.local/share/rstudio/sessions/active/session-*/properites")

property <- function(session, names) {
  file <- Filter(file.exists, file.path(session, names))
  if (length(file) == 0) return(0)
  suppressWarnings(as.numeric(readLines(file[1], n = 1, warn = FALSE)))
}

running <- vapply(sessions, property, 0, "running") == 1
executing <- vapply(sessions, property, 0, "executing") == 1
used <- max(0, vapply(sessions, property, 0, c("last-used", "last_used")), na.rm = TRUE)
last <- format(as.POSIXct(used / 1000, origin = "1970-01-01", tz = "UTC"), '"%Y-%m-%dT%H:%M:%SZ"')

cat(sprintf(
  '{"busyKernels": %d, "lastActivity": %s}\n',
  sum(running & executing, na.rm = TRUE), if (used > 0) last else "null"
))
