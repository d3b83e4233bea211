"""Methods that adapt at test time, from the test images alone."""
