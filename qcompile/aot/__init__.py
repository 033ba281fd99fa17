"""Compiling ahead of time with the weights as inputs.

    callspec   what a module is called with, and whether another call is the same
    capture    get those arguments from a real call
    groups     which modules can share one package
    export     one module -> a graph whose weights are inputs
    build      graph -> package file, checked against eager
    bind       which tensor of a module goes to which input
    dispatch   installed on a module: run the package that fits the call

Source of the method: the lifting of parameters that `torch.export` documents for its graph signature, applied twice.
"""
