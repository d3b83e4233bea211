"""Methods that learn the words around the class name."""
