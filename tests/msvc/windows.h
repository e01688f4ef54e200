/* windows.h - no part of any system: the few names of it that kalm_rerank.h uses, in shapes that compile, so that the
   library's Windows and Microsoft branches can be checked for syntax, types and warnings where neither is at hand. */
#ifndef STUB_WINDOWS_H
#define STUB_WINDOWS_H
#include <stddef.h>

typedef void *HANDLE;
typedef void *LPVOID;
typedef unsigned long DWORD;
typedef int BOOL;
typedef size_t DWORD_PTR;
typedef wchar_t WCHAR;
typedef union { struct { DWORD LowPart; long HighPart; } u; long long QuadPart; } LARGE_INTEGER;
typedef struct { DWORD dwPageSize, dwNumberOfProcessors; } SYSTEM_INFO;
typedef struct { void *opaque[5]; } CRITICAL_SECTION;
typedef struct { void *opaque; } CONDITION_VARIABLE;
#define WINAPI
#define INFINITE 0xffffffffu
#define CP_UTF8 65001
#define MB_ERR_INVALID_CHARS 8
#define GENERIC_READ 0x80000000u
#define FILE_SHARE_READ 1
#define FILE_SHARE_WRITE 2
#define FILE_SHARE_DELETE 4
#define OPEN_EXISTING 3
#define FILE_ATTRIBUTE_NORMAL 0x80
#define INVALID_HANDLE_VALUE ((HANDLE)(long long)-1)
#define ERROR_FILE_NOT_FOUND 2
#define ERROR_PATH_NOT_FOUND 3
#define ERROR_ACCESS_DENIED 5
#define PAGE_READONLY 2
#define FILE_TYPE_DISK 1
#define FILE_MAP_READ 4

int MultiByteToWideChar(unsigned page, DWORD flags, const char *from, int n, WCHAR *to, int room);
HANDLE CreateFileW(const WCHAR *name, DWORD access, DWORD share, void *security, DWORD how, DWORD flags, HANDLE pattern);
DWORD GetLastError(void);
BOOL GetFileSizeEx(HANDLE file, LARGE_INTEGER *size);
BOOL CloseHandle(HANDLE h);
BOOL ReadFile(HANDLE file, void *to, DWORD size, DWORD *got, void *overlapped);
DWORD GetFileType(HANDLE file);
HANDLE GetCurrentProcess(void);
BOOL GetProcessAffinityMask(HANDLE process, DWORD_PTR *mask, DWORD_PTR *machine);
HANDLE CreateFileMappingW(HANDLE file, void *security, DWORD protect, DWORD high, DWORD low, const WCHAR *name);
void *MapViewOfFile(HANDLE map, DWORD access, DWORD high, DWORD low, size_t size);
BOOL UnmapViewOfFile(const void *p);
void GetSystemInfo(SYSTEM_INFO *info);
BOOL IsProcessorFeaturePresent(DWORD feature);
void InitializeCriticalSection(CRITICAL_SECTION *c);
void DeleteCriticalSection(CRITICAL_SECTION *c);
void EnterCriticalSection(CRITICAL_SECTION *c);
void LeaveCriticalSection(CRITICAL_SECTION *c);
void InitializeConditionVariable(CONDITION_VARIABLE *v);
void WakeConditionVariable(CONDITION_VARIABLE *v);
void WakeAllConditionVariable(CONDITION_VARIABLE *v);
BOOL SleepConditionVariableCS(CONDITION_VARIABLE *v, CRITICAL_SECTION *c, DWORD ms);
HANDLE CreateThread(void *security, size_t stack, DWORD (WINAPI *start)(LPVOID), void *arg, DWORD flags, DWORD *id);
DWORD WaitForSingleObject(HANDLE h, DWORD ms);
BOOL QueryPerformanceFrequency(LARGE_INTEGER *per_second);
BOOL QueryPerformanceCounter(LARGE_INTEGER *now);
BOOL SwitchToThread(void);
#endif
