#include "gated_c.h"

const char *gated_status_string(gated_status status)
{
    switch (status) {
    case GATED_OK:             return "no error";
    case GATED_NO_MEMORY:      return "not enough memory";
    case GATED_BAD_SIZE:       return "a size is out of range or does not fit its neighbours";
    case GATED_BAD_LENGTH:     return "a length is negative, longer than the sequence, or batch_sizes rises";
    case GATED_BAD_INDEX:      return "an id is negative or beyond its embedding";
    case GATED_NOT_STREAMABLE: return "a bidirectional or reverse model cannot run step by step: its reverse direction starts "
                                      "at the end of the sequence; nor can one that reshapes or flips whole sequences";
    case GATED_NOT_RESETTABLE: return "a model with a pool, a flip, a repeat or a reshape takes no resets: it makes one result of "
                                      "the steps before and after";
    case GATED_UNKNOWN_ISA:    return "GATED_C_ISA names an instruction set that this build does not have";
    case GATED_UNUSABLE_ISA:   return "GATED_C_ISA names an instruction set that this CPU does not have";
    }
    return "unknown status";
}
