"""What every command needs of a run: settings, inputs, run folder, progress, interruption."""
