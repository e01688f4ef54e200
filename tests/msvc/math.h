/* math.h - see windows.h here */
#ifndef STUB_MATH_H
#define STUB_MATH_H
#ifdef __cplusplus
extern "C" {
#endif
#define INFINITY ((float)(1e308 * 10))
#define NAN (INFINITY * 0.0f)
double sin(double x);
double cos(double x);
double pow(double x, double y);
double floor(double x);
double exp(double x);
float expf(float x);
float fabsf(float x);
float floorf(float x);
float fmaf(float x, float y, float z);
double sqrt(double x);
float sqrtf(float x);
float tanhf(float x);
#ifdef __cplusplus
}
#endif
#endif
