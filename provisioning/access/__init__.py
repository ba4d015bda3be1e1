"""Who may call: tokens, management tokens and quotas."""
