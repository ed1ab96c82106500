//! Flow tables, RQT, TIR.
