//! The reference model: a queue so simple that it is plainly right, against which random programs are compared.
