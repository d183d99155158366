-- Writes nothing, and is refused where writes are: a server that is full, follows another, or cannot save runs no script that might write.
return 1
