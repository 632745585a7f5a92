"""The formula of each method of PEFT and LyCORIS: from the tensors of a module to its deltas."""
