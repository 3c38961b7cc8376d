/* version.c - the version of the library, as text. */
#include "../pyqwen.h"

#define TEXT(x) #x
#define JOIN(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

const char *pq_version(void) {
    return JOIN(PQ_VERSION_MAJOR, PQ_VERSION_MINOR, PQ_VERSION_PATCH);
}
