"""What audio plug-ins load: networks as JSON, of RTNeural and of the Neural Amp Modeler."""
