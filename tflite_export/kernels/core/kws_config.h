/* What the kernels are built for: any model, so that nothing is listed here.
 *
 * 'tfmot-kws firmware' and 'python -m tflite_export inference' write a file of this name that lists what their models
 * use, and build.h says what can be listed. It goes into the place of this one, or in front of every file:
 * -include PATH/kws_config.h. */
#ifndef KWS_CONFIG_H_
#define KWS_CONFIG_H_

#endif
