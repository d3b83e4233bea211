"""What every command needs of a run: settings, data, folder, progress, interruption."""
