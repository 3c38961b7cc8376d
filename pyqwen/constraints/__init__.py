"""What an answer must look like: schemas, grammars, and which token may come next by them."""
