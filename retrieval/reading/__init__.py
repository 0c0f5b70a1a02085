"""Reading a corpus: files to splits to checked and cleaned documents."""
