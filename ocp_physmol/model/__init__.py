"""The PhysMol network, one file for each part of section 3 of the paper."""
