#!/usr/bin/env Rscript
# Installs one R package for the user: from /opt/packages if it is there, else from the repositories
# that R is set up with. install.packages only warns when it fails, so we look.
name <- commandArgs(TRUE)
if (length(name) != 1) stop("usage: install-package NAME")

library_of_user <- Sys.getenv("R_LIBS_USER")
dir.create(library_of_user, showWarnings = FALSE, recursive = TRUE)
.libPaths(c(library_of_user, .libPaths()))

is_installed <- function() length(find.package(name, quiet = TRUE)) > 0
usual <- getOption("repos")
usual[usual == "@CRAN@"] <- "https://cloud.r-project.org"

for (repositories in list("file:///opt/packages", usual)) {
  if (!is_installed()) install.packages(name, library_of_user, repositories, quiet = TRUE)
}
quit(status = if (is_installed()) 0 else 1)
