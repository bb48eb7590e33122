"""What is wrong with a model, and where: layers at fault, two versions compared, what can be pruned."""
