greeting <- function() "installed"
