/* library.c - a program for the tests of packages: links the library, and asks it for something. */
#include "kalm_rerank.h"

int main(void)
{
    kalm_model *model = NULL;
    kalm_error err;
    return kalm_version() && kalm_kernels(0) && kalm_model_open("no such file", NULL, &model, &err) == KALM_CANNOT_READ ? 0 : 1;
}
