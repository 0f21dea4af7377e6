#include "gated_c.h"

int gated_abi_version(void)
{
    return GATED_ABI_VERSION;
}

const char *gated_status_string(gated_status status)
{
    switch (status) {
    case GATED_OK:             return "no error";
    case GATED_NO_MEMORY:      return "not enough memory";
    case GATED_BAD_SIZE:       return "a size is out of range or does not fit its neighbours, or a model's "
                                      "description makes no sense";
    case GATED_BAD_LENGTH:     return "a length is negative, longer than the sequence or not what the model takes, or "
                                      "batch_sizes rises";
    case GATED_BAD_INDEX:      return "an id is negative or beyond its embedding";
    case GATED_NOT_STREAMABLE: return "a bidirectional or reverse model cannot run step by step: its reverse direction starts "
                                      "at the end of the sequence; nor can one that reshapes or flips whole sequences";
    case GATED_POOL_FULL:      return "every member of the pool is open";
    case GATED_UNKNOWN_ID:     return "an id is not of an open member of this pool";
    case GATED_REPEATED_ID:    return "an id occurs twice";
    case GATED_BAD_SNAPSHOT:   return "the bytes are not a snapshot, or are damaged";
    case GATED_FOREIGN_SNAPSHOT: return "a snapshot of a model with other layers, sizes or options";
    case GATED_NOT_RESETTABLE: return "a model with a pool, a flip, a repeat or a reshape takes no resets: it makes one result of "
                                      "the steps before and after";
    case GATED_UNKNOWN_ISA:    return "GATED_C_ISA names an instruction set that this build does not have";
    case GATED_UNUSABLE_ISA:   return "GATED_C_ISA names an instruction set that this CPU does not have";
    case GATED_NO_FILE:        return "the file cannot be opened, or is not a regular file";
    case GATED_BAD_FILE:       return "the file is broken, cut short or altered, or not a .gated file";
    case GATED_UNSUPPORTED_FILE: return "the file is of a newer version than this library, or the machine is big-endian";
    }
    return "unknown status";
}
