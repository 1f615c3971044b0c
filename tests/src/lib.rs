//! What the tests share: starting, killing and talking to real `chronik` processes.
