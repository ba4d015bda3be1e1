"""One module per engine. `base` says what a backend must do."""
