/* Another library that someone preloads. */
int the_other_library = 1;
