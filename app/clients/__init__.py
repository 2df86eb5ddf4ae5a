"""Programs that draw with what is made here: where they are on this machine, where they keep models, giving them files.

Their files are read in place, from their headers alone, and only in the folders that they themselves look into.
"""
