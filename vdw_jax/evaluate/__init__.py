"""How good a generator is: reconstruction, generation and conditional design, measured by the standard definitions.

`generating` runs on the device and needs no crystal library; `scoring` runs on CPU cores and needs no device.
"""
