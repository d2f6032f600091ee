"""What a chemist does with a potential: files of molecules in, minima and vibrations out."""
