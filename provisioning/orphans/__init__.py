"""The state compared with servers, both ways: report, repair, adoption and restore."""
