//! Runnable examples; each file is one idea.
